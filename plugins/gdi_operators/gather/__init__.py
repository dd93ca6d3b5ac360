"""How the releases of several nodes become one answer; built in, never a workflow's code."""
