"""The table of runs, from Python."""

from plumbline.public.wording import names_arguments
from reporting import run_records

runs = names_arguments(run_records.runs)
