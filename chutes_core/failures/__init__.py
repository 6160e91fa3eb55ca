"""From a status and a phrase to a kind of failure, from a kind to what follows, and which redirects are none."""
