"""`python -m service` is the `minicpm-service` command.

Knows no verb.
"""

import sys

from service.cli import main

sys.exit(main())
