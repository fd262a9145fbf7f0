"""The child process that reads other people's files: bounded memory, CPU and time, no network, no Django, no secrets.

`python -m server.imaging.parser` takes one order on stdin and gives one answer on stdout; `server.imaging.limited`
starts it. What it writes goes below the folder named in the order.
"""
