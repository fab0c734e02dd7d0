"""Gunicorn, and how the service runs in it.

This room owns the worker with its event loop, the life of a connection, Gunicorn's hooks, the drain
at a stop, and the reload of a bundle. It may import `web`, `monitoring` and `bundle`; no other room
imports Gunicorn or this one, so that another server could run the application. Names of Gunicorn
that its documentation does not promise are listed in `docs/upgrading.md`.

Begin with `hooks`, which `gunicorn.conf.py` passes on, then `worker.EventLoopWorker`.
"""
