// Asks the server. Errors come as ApiError, with what the server said.
let me = { name: "", scope: "open", csrf: "" };
const SCOPES = ["open", "metrics", "read", "operate", "admin"];

export class ApiError extends Error {
  constructor(status, title, detail) {
    super(detail || title);
    this.status = status;
    this.title = title;
  }
}

/** Note who is asking, as /api/me tells it. */
export const setMe = (told) => { me = told; };
export const whoAmI = () => me;

/** Whether the person may do what a scope stands for; the server judges again. */
export const may = (scope) => SCOPES.indexOf(scope) <= SCOPES.indexOf(me.scope);

/** Write a path with a query; empty values are left out. */
export function url(path, query = {}) {
  const given = Object.entries(query).filter(([, value]) => value !== "" && value != null);
  return given.length ? `${path}?${new URLSearchParams(given)}` : path;
}

/** Write a path of parts that people chose, such as names of queues and ids of jobs. */
export const path = (...parts) => `/${parts.map(encodeURIComponent).join("/")}`;

async function ask(target, options) {
  let answer;
  try {
    answer = await fetch(target, { credentials: "same-origin", ...options });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(0, "no answer", "This engine does not answer.");
  }
  const type = answer.headers.get("Content-Type") || "";
  const told = type.includes("json") ? await answer.json() : { detail: (await answer.text()).trim() };
  if (answer.ok) return told;
  if (answer.status === 401) dispatchEvent(new CustomEvent("unauthorized"));
  throw new ApiError(answer.status, told.title || answer.statusText, told.detail);
}

export const get = (target, { signal } = {}) => ask(target, { signal });

/** Change something. `body` is sent as JSON, with the token that other sites cannot know. */
export const post = (target, body = {}, { signal, method = "POST" } = {}) => ask(target, {
  method,
  signal,
  headers: { "Content-Type": "application/json", "X-CSRF-Token": me.csrf },
  body: JSON.stringify(body),
});
