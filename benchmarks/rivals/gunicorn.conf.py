"""The service's own Gunicorn settings for a bare app: all but the hooks that ask for a service."""

import runpy

OURS = runpy.run_path("gunicorn.conf.py")
globals().update({name: OURS[name] for name in OURS.keys() - {"when_ready", "post_fork"}})
