"""An agent that reads its secrets from its environment. It says which it has, and never a value."""

import os
import sys

NEEDED = ["OPENAI_API_KEY", "DATABASE_URL"]

for name in NEEDED:
    print(f"{name}: {'set' if os.environ.get(name) else 'missing'}")
sys.exit(0 if all(os.environ.get(name) for name in NEEDED) else 1)
