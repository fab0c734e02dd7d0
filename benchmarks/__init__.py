"""Measures the service against what it competes with."""
