"""What the gateway does with a request: route it, ask a backend, give the answer Chutes' form, and send it."""
