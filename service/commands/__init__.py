"""What `leadlog …` can do, a file per subject.

The files import what they need inside the functions, so that `leadlog --help` is quick.
"""
