// Times as people read them. The exact instant is always there as well, in the title.
import { clock, language } from "./settings";

const parts = {
  year: "numeric",
  month: "2-digit",
  day: "2-digit",
  hour: "2-digit",
  minute: "2-digit",
  second: "2-digit",
} as const;

/** `2026-11-28 02:14:05`, local or UTC as chosen. */
export function stamp(time: string | number, utc = clock.value === "utc"): string {
  const date = new Date(time);
  if (Number.isNaN(date.getTime())) return String(time);
  const format = new Intl.DateTimeFormat("sv-SE", { ...parts, timeZone: utc ? "UTC" : undefined });
  return format.format(date);
}

/** The time of day alone. */
export const hour = (time: string): string => stamp(time).slice(11, 16);

const STEPS: [Intl.RelativeTimeFormatUnit, number][] = [
  ["day", 86_400],
  ["hour", 3_600],
  ["minute", 60],
  ["second", 1],
];

/** `in 3 days`, `2 minutes ago`. */
export function relative(time: string | number, now = Date.now()): string {
  const seconds = Math.round((new Date(time).getTime() - now) / 1000);
  if (Number.isNaN(seconds)) return "";
  const format = new Intl.RelativeTimeFormat(language.value, { numeric: "auto", style: "short" });
  const [unit, size] = STEPS.find(([, each]) => Math.abs(seconds) >= each) ?? ["second", 1];
  return format.format(Math.trunc(seconds / size), unit);
}
