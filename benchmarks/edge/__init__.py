"""How quickly edges and pages answer, and what clients cost them."""
