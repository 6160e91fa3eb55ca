"""What answers behind the gateway: a real small model in a process of its own, or an echo; and its weights."""
