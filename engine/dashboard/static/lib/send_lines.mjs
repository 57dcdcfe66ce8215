// The lines that send a job from a terminal.

/** A word for a POSIX shell, whatever it holds. */
export const quoted = (text) => (/^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`);

/** A key with braces, which shells would read. */
const key = (queue, lane) => `'mq:{${queue}}:${lane}'`;

/** Say why a text is no payload, or an empty string. */
export function problemOf(text) {
  try {
    const value = JSON.parse(text);
    return value && typeof value === "object" && !Array.isArray(value) ? "" : "The payload must be a JSON object.";
  } catch (error) {
    return `The payload is no JSON: ${error.message}`;
  }
}

/** How redis-cli finds the server; a masked password is left to be filled in. */
function to(address) {
  if (!address) return "";
  if (address.startsWith("unix://")) return ` -s ${quoted(address.slice(7).split("?")[0])}`;
  return address.includes("***") ? ' -u "$REDIS_URL"' : ` -u ${quoted(address)}`;
}

/** Ways to send one job, as [name, line]; `address` is where the queues live, where that is known. */
export const commands = ({ type, queue, lane, payload, address }) => [
  ["Redis, in any language", `redis-cli${to(address)} XADD ${key(queue, lane)} '*' type ${quoted(type)} data ${quoted(payload)}`],
  ["Command line", `python -m engine enqueue ${quoted(type)} --queue ${quoted(queue)} --lane ${lane} --data ${quoted(payload)}`],
];
