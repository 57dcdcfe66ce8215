// Runs before anything is painted, so that the page does not flash in the other theme.
{
  let theme = null;
  try { theme = localStorage.getItem("streamlane-theme"); } catch { /* Storage may be forbidden. */ }
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
}
