"""A conversation with a bundle: the session, its settings, what it is asked and what it reports."""
