"""Doing what a call yields, blocking or on the event loop: connections, deadlines, sizes. The only I/O of a call."""
