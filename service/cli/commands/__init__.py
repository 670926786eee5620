"""The commands of `leadlog`, one file per subject.

Modules that take long to import are imported inside the functions: `leadlog --help` stays quick.
"""
