"""A model on disk and in memory.

This room owns the manifest, the directory that holds it with its artefacts, the two runtimes that
open an artefact, and the model that a process serves. It imports the room `contract` alone:
training writes bundles, serving and scoring read them, and both get the same checks.

Begin with `manifest.Manifest`, then `store.Bundle` and `model.Model`.
"""
