"""From bytes to a checked answer: events, the guard, the assembled reply, and JSON in what a model wrote. Pure."""
