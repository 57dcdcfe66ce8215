// Keeps the page fresh: asks for it again and takes over what changed. Without script the page
// reloads itself every ten seconds.
'use strict';

const EVERY_MS = 2000;
let since = null;

function takeOver(next) {
  for (const selector of ['#live', 'h1']) {
    const here = document.querySelector(selector);
    const there = next.querySelector(selector);
    if (!here || !there || here.outerHTML === there.outerHTML) {
      continue;
    }
    const scrolled = [...here.querySelectorAll('.scroll')].map((frame) => frame.scrollLeft);
    const focused = [...here.querySelectorAll('.scroll')].indexOf(document.activeElement);
    here.className = there.className;
    here.replaceChildren(...there.childNodes);
    here.querySelectorAll('.scroll').forEach((frame, at) => {
      frame.scrollLeft = scrolled[at] || 0;
      if (at === focused) {
        frame.focus({ preventScroll: true });
      }
    });
  }
  document.title = next.title;
}

function tellStale(why) {
  since = since || new Date();
  let line = document.getElementById('stale');
  if (!line) {
    line = document.createElement('p');
    line.id = 'stale';
    line.className = 'banner bad';
    document.querySelector('main').prepend(line);
  }
  line.textContent = `No answer from this engine since ${since.toLocaleTimeString()} (${why}).`;
}

async function refresh() {
  if (document.hidden) {
    return;
  }
  try {
    const answer = await fetch('/', { signal: AbortSignal.timeout(15000) });
    if (!answer.ok) {
      throw new Error(`status ${answer.status}`);
    }
    takeOver(new DOMParser().parseFromString(await answer.text(), 'text/html'));
    since = null;
    document.getElementById('stale')?.remove();
  } catch (error) {
    tellStale(error.message);
  }
}

async function keepFresh() {
  await refresh();
  setTimeout(keepFresh, EVERY_MS);
}

setTimeout(keepFresh, EVERY_MS);
document.addEventListener('visibilitychange', refresh);
