"""What operators say of networks: exemptions, releases, throttles by hand; read, checked against what is in force, written."""
