"""What calls, chunks, imports and vectors cost, beside raw httpx, the openai SDK and the peers.

server.py answers with the bytes of canned.py from a process of its own, clients/ gives every client the same face,
child.py measures one of them in a fresh process (calls.py, crowd.py, vectors.py), run.py runs them all, and report.py
and aims.py show what was found.
"""
