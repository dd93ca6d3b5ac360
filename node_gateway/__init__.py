"""The node's door: every task in, every byte of data to a task, all state and every release out passes here, under the
node's own policy.
"""
