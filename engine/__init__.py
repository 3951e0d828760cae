"""The engine: connection events in, throttle decisions out. `DESIGN.md` beside this file has the map."""
