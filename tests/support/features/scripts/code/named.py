import sys
from pathlib import Path

from helper import shout

print(shout(Path(sys.argv[1]).read_text()), end="")
