"""The rules, as functions from values to values: no Django, sockets, clock, random or logging."""
