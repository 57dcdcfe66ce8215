"""The store: the engine's verbs over Redis. Nothing outside this package speaks to the server."""
