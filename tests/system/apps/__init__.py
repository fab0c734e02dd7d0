"""Applications that only a server's own processes import, and what tests must know of them.

pytest's process must not import the modules here: they load `wsgi`, which needs a trained bundle.
"""

MODEL_SECONDS = 0.08
"""How long a prediction of `slow_model` takes."""
