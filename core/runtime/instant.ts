const form = /^(\d{4})-(\d{2})-(\d{2})[Tt](\d{2}):(\d{2}):(\d{2})(\.\d{1,9})?([Zz]|[+-]\d{2}:\d{2})$/;

/**
 * Milliseconds of a date-time (RFC 3339 §5.6); undefined where it is none. A leap second (§5.7) is the second before it:
 * nothing here can say more, and a compromised key waits for no spelling.
 */
export function parseInstant(text: string): number | undefined {
  const match = form.exec(text);
  if (!match) return undefined;
  const [year, month = '', day = '', hour, minute, second, fraction = '', zone = ''] = match.slice(1);
  const isLeap = second === '60';
  const clock = `${hour}:${minute}:${isLeap ? '59' : second}${isLeap ? '' : fraction.slice(0, 4)}`;
  const ms = Date.parse(`${year}-${month}-${day}T${clock}${zone.toUpperCase()}`);
  // Date.parse takes 30 February for a day of March.
  const isDay = new Date(Date.UTC(2000, Number(month) - 1, 1)).getUTCMonth() === Number(month) - 1;
  const last = new Date(Date.UTC(Number(year), Number(month), 0)).getUTCDate();
  return Number.isNaN(ms) || !isDay || Number(day) > last ? undefined : ms;
}
