"""Scripts that measure speed and memory, one a group of figures; each prints Markdown tables."""

import os

# As the command was given, before imgpipe sets what its own stages need: other contenders must not
# get that.
ENVIRONMENT = dict(os.environ)
