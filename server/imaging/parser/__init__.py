"""The child process that reads other people's files: bounded memory, CPU and time, no network, no Django, no secrets.

`python -m server.imaging.parser` takes one order on stdin and gives one answer on stdout; `server.imaging.limited`
starts it. What it writes goes below the folder named in the order.

What holds it: RLIMIT_AS, CPU, FSIZE, NOFILE and CORE; a time after which it is killed; SIGKILL when the server dies; no
environment; a network namespace of its own with nothing in it. Where the system forbids namespaces (some containers),
an audit hook still refuses sockets and programs to Python code, but not to native code that was taken over: there, run
the server where namespaces are allowed, or keep the host from reaching what it need not.
"""
