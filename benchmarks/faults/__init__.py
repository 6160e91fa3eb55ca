"""Whether an answer comes whole, and how soon, when models fail: every client in the same bad world, in virtual time.

python -m benchmarks.faults --help

world.py draws what each attempt meets, server.py plays it as an HTTP transport inside the process, virtual.py makes
the time, ours.py and peers.py are the clients, judge.py judges what a reader was given, run.py runs and adds up, and
report.py and plots.py show it.
"""
