"""The service's Gunicorn settings for a bare app: all but the hooks that need a service."""

import runpy

SETTINGS = runpy.run_path("gunicorn.conf.py")
SERVICE_HOOKS = {"on_starting", "when_ready", "post_fork", "post_worker_init"}
globals().update({name: SETTINGS[name] for name in SETTINGS.keys() - SERVICE_HOOKS})
