"""Tools for tests and developers; training never imports this package."""
