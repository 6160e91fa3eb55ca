"""A call as a generator: send, wait, retry or give up; what it asks to be done, it yields."""
