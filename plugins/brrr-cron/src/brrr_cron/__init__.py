"""Recurring schedules of brrr: `conn.loop("demo", app.handle, schedules=[brrr_cron.every("0 3 * * *", nightly)])`."""

from brrr_cron.schedule import CronSchedule, Missed, every

__all__ = ["CronSchedule", "Missed", "every"]
