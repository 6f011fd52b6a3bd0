"""Layer 1: the HTTP API server. ``app.py`` has the routes, ``protocol.py`` what a request may say."""
