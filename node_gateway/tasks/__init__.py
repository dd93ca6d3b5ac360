"""The TES in front of the TES: a run's tasks are checked, rewritten for this node, and answered without anything of the
node's own.
"""
