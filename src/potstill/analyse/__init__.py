"""Why a classifier does what it does: its data, its attention, its failures, what each part of it is worth."""
