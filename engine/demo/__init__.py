"""The demonstration: a simulated month of inbound mail, played through Kafka and the engine."""
