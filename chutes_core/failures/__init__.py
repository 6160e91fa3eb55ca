"""From a status and a phrase to a kind of failure, and from a kind to what follows."""
