"""The rim: Kafka and Faust around the pure engine. Blocks in, decisions and checkpoints out."""
