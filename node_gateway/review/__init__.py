"""A person of the node looks at a release before it leaves: the page, who may use it, and the decision."""
