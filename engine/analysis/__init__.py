"""What a postmaster asks of the engine: why, what if, and with which threshold. Pure: events and decisions in, answers out."""
