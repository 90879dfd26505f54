"""A page to try a model in the browser: `server` answers, `index.html`, `page.js` and `page.css` are sent."""
