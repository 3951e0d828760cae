"""The engine: connection events in, throttle decisions out. `DESIGN.md` in this folder has the map."""
