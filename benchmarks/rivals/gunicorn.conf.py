"""The service's own Gunicorn settings for a bare app: all but the hooks that ask for a service."""

import runpy

OURS = runpy.run_path("gunicorn.conf.py")
OF_A_SERVICE = {"on_starting", "when_ready", "post_fork", "post_worker_init"}
globals().update({name: OURS[name] for name in OURS.keys() - OF_A_SERVICE})
