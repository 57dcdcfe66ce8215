// Lets a person in with a token; the browser then keeps a session that scripts cannot read.
import { html, useEffect, useRef, useState } from "../lib/dom.mjs";
import { get, post } from "../lib/api.mjs";
import { navigate } from "../lib/router.mjs";

const NOT_KEPT = "This browser did not keep the session. Allow cookies for this page, and open it by https, or by "
  + "http on localhost.";

export default function Login({ again }) {
  const [error, setError] = useState("");
  const [busy, setBusy] = useState(false);
  const field = useRef(null);
  useEffect(() => {
    document.title = "Log in – Streamlane";
    field.current?.focus();
  }, []);
  const submit = async (event) => {
    event.preventDefault();
    const token = field.current.value.trim();
    if (!token) {
      setError("Enter the token first.");
      return;
    }
    setBusy(true);
    setError("");
    try {
      await post("/api/session", { token });
      await get("/api/me").catch((lost) => { throw lost.status === 401 ? new Error(NOT_KEPT) : lost; });
      if (location.pathname === "/login") navigate("/", { replace: true });
      again?.();
    } catch (failed) {
      setError(failed.message);
      setBusy(false);
      field.current?.select();
    }
  };
  return html`<form class="login card pad" method="post" action="/login" onSubmit=${submit}>
    <h1>Log in</h1>
    <p class="muted">This page asks for a token. Whoever runs the engines makes one with <code>python -m engine token NAME</code>.</p>
    <input class="unseen" name="username" autocomplete="username" value="streamlane" tabindex="-1" aria-hidden="true" readonly />
    <label for="token">Token</label>
    <input id="token" ref=${field} name="token" type="password" autocomplete="current-password" spellcheck="false"
      maxlength="512" aria-invalid=${error ? "true" : undefined} aria-describedby="login-error" />
    <p id="login-error" class="bad" role="alert">${error}</p>
    <button class="primary" disabled=${busy}>${busy ? "Logging in…" : "Log in"}</button></form>`;
}
