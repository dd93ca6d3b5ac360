"""The node's workspace bucket as the outside may know it: names, sizes and times of a run's own files; never a byte of
content.
"""
