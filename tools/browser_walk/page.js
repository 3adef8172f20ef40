// What the walk asks of JupyterLab's page: put into it once, then called as window.__walk.NAME(path, ...).
(() => {
  const walk = (window.__walk = {messages: []});  // errors that the kernel sent, wherever they were shown

  walk.panel = path => {
    for (const widget of window.jupyterapp.shell.widgets('main'))
      if (widget.context && widget.context.path === path && widget.content && widget.content.widgets) return widget;
    return null;
  };

  walk.listen = path => {
    walk.panel(path).sessionContext.iopubMessage.connect((_, message) => {
      const type = message.header.msg_type, content = message.content;
      if (type === 'error') walk.messages.push({kind: 'error', text: content.ename + ': ' + content.evalue});
      else if (type === 'stream' && content.name === 'stderr' && /Traceback|Exception in/.test(content.text))
        walk.messages.push({kind: 'stderr', text: content.text.slice(-600)});
    });
  };

  walk.kernel = path => {
    const session = walk.panel(path).sessionContext.session;
    return session && session.kernel ? session.kernel.connectionStatus + '/' + session.kernel.status : 'none';
  };

  walk.state = path => {
    const found = {kernel: walk.kernel(path), code: 0, run: 0, pending: 0};
    for (const cell of walk.panel(path).content.widgets) {
      if (cell.model.type !== 'code' || !cell.model.sharedModel.getSource().trim()) continue;
      found.code++;
      const prompt = cell.node.querySelector('.jp-InputPrompt');
      if ((prompt && prompt.textContent.includes('*')) || cell.model.executionState === 'running') found.pending++;
      else if (cell.model.executionCount) found.run++;
    }
    return found;
  };

  const STDERR = '.jupyter-widgets [data-mime-type$="vnd.jupyter.stderr"]';
  const ERROR = '.jupyter-widgets [data-mime-type$="vnd.jupyter.error"]';
  const VIEW = 'application/vnd.jupyter.widget-view+json';
  const NO_WIDGET = /^(Error displaying widget|Loading widget)|Error creating widget|widget model not found/i;

  walk.errors = path => {
    const out = [], known = [];
    walk.panel(path).content.widgets.forEach((cell, i) => {
      if (cell.model.type !== 'code') return;
      const report = (where, text) => out.push({cell: i, where, text: text.slice(0, 300)});
      const outputs = cell.model.outputs.toJSON();
      const expected = (cell.model.sharedModel.getMetadata('tags') || []).includes('raises-exception');
      for (const output of outputs)
        if (output.output_type === 'error') {
          known.push(output.ename + ': ' + output.evalue);
          if (!expected) report('cell', output.ename + ': ' + output.evalue);
        }
      if (expected) return;
      // An error that interact() or an Output widget caught is no error of the cell.
      for (const node of cell.node.querySelectorAll(`${STDERR}, ${ERROR}`))
        if (node.textContent.includes('Traceback (most recent call last)')) {
          const text = node.textContent.trim().split('\n').pop().trim();
          known.push(text);
          report('output widget', text);
        }
      const views = outputs.filter(output => output.data && output.data[VIEW]).length;
      if (views && !cell.node.querySelector('.jp-OutputArea .jupyter-widgets'))
        report('widget not rendered', views + ' view(s) in the model, none on the page');
      for (const node of cell.node.querySelectorAll('.jp-OutputArea-output'))
        if (NO_WIDGET.test(node.textContent.trim())) report('widget not rendered', node.textContent.trim());
    });
    for (const message of walk.messages)  // raised somewhere, shown nowhere: a callback, a cleared output
      if (message.kind === 'error' && !known.some(k => k.startsWith(message.text.split('\n')[0].slice(0, 80)))) {
        known.push(message.text);
        out.push({cell: -1, where: 'kernel', text: message.text});
      }
    return out;
  };

  walk.prose = path => {
    const found = {formulas: 0, bad: []};
    walk.panel(path).content.widgets.forEach((cell, i) => {
      if (cell.model.type !== 'markdown') return;
      const report = (what, text) => found.bad.push({cell: i, what, text: (text || '').slice(0, 200)});
      found.formulas += cell.node.querySelectorAll('mjx-container').length;
      for (const _ of cell.node.querySelectorAll('mjx-container mjx-mtext[style*="color: red"]'))
        report('formula', 'undefined macro in ' + cell.model.sharedModel.getSource().slice(0, 80));
      for (const node of cell.node.querySelectorAll('mjx-merror'))
        report('formula', node.getAttribute('title') || node.textContent);
      for (const node of cell.node.querySelectorAll('.jp-RenderedMarkdown img'))
        if (node.complete && node.naturalWidth === 0) report('image', node.getAttribute('src'));
    });
    return found;
  };

  walk.notebook = path => walk.panel(path).content.model.toJSON();

  // [kind, the control's own root, the element that takes the keyboard]
  const KINDS = [
    ['slider', '.widget-slider', '.noUi-handle'],
    ['dropdown', '.widget-dropdown', 'select'],
    ['select', '.widget-select', 'select'],
    ['checkbox', '.widget-checkbox', 'input[type=checkbox]'],
    ['radio', '.widget-radio', 'input[type=radio]'],
    ['toggles', '.widget-toggle-buttons', 'button'],
    ['number', '.widget-text', 'input[type=number]'],
    ['text', '.widget-text', 'input[type=text]'],
    ['textarea', '.widget-textarea', 'textarea'],
    ['play', '.widget-play', 'button'],
    ['toggle', '.widget-toggle-button:not(.widget-toggle-buttons *)', null],
    ['button', '.widget-button:not(.widget-play *, .widget-toggle-buttons *)', null],
  ];
  const LAST = {toggle: 1, button: 2};  // "reset" buttons after what they reset
  const visible = node => node && node.getClientRects().length && getComputedStyle(node).visibility !== 'hidden';
  const plain = text => (text || '').replace(/[\u200b\s]+/g, ' ').trim();
  let next = 0;

  walk.controls = path => {  // numbers every new visible, enabled control by data-walk
    const out = [];
    walk.panel(path).content.widgets.forEach((cell, i) => {
      if (cell.model.type !== 'code') return;
      for (const [kind, rootSelector, keySelector] of KINDS)
        for (const root of cell.node.querySelectorAll(rootSelector)) {
          if (root.dataset.walk !== undefined) continue;
          const key = keySelector ? root.querySelector(keySelector) : root;
          if (!visible(key) || key.disabled || (kind === 'slider' && root.querySelector('[disabled]'))) continue;
          root.dataset.walk = key.dataset.walkKey = String(next);
          const label = root.querySelector('.widget-label');
          const words = [keySelector ? label && label.textContent : root.textContent,
                         kind === 'checkbox' && root.textContent, key.title];
          out.push({id: next++, kind, cell: i, label: words.map(plain).find(word => word) || ''});
        }
    });
    return out.sort((a, b) => (LAST[a.kind] || 0) - (LAST[b.kind] || 0) || a.id - b.id);
  };

  const TAB = '.jp-OutputArea .widget-tab .lm-TabBar-tab:not(.lm-mod-current)';
  const PAGE = '.jupyter-widget-Collapse:not(.jupyter-widget-Collapse-open) > .jupyter-widget-Collapse-header';
  walk.folds = path => {  // closed tabs and accordion pages, each offered once
    const out = [];
    for (const node of walk.panel(path).content.node.querySelectorAll(`${TAB}, .jp-OutputArea ${PAGE}`))
      if (node.dataset.walkFold === undefined && visible(node)) {
        node.dataset.walkFold = String(next);
        out.push(next++);
      }
    return out;
  };

  walk.value = id => {
    const root = document.querySelector(`[data-walk="${id}"]`);
    if (!root) return null;
    const values = [];
    for (const node of [root, ...root.querySelectorAll('*')]) {
      if (node.getAttribute('aria-valuenow') !== null) values.push(node.getAttribute('aria-valuenow'));
      if ('checked' in node && /checkbox|radio/.test(node.type)) values.push(node.checked);
      else if (node.tagName === 'SELECT') values.push([...node.selectedOptions].map(o => o.index).join());
      else if (/^(INPUT|TEXTAREA)$/.test(node.tagName)) values.push(node.value);
      if (node.classList.contains('mod-active')) values.push('active:' + node.textContent);
    }
    return JSON.stringify(values);
  };

  const describe = (node, skip, parts) => {
    if (node === skip) return;
    if (node.nodeType === 3) parts.push(node.data);
    if (node.nodeType !== 1) return;
    const tag = node.tagName;
    if (tag === 'IMG') return void parts.push('image ' + node.src);
    if (tag === 'svg' || tag === 'SVG') return void parts.push(node.outerHTML);
    if (tag === 'SELECT') return void parts.push('choice ' + node.selectedIndex);
    if (tag === 'CANVAS') parts.push('canvas ' + node.toDataURL());
    if (tag === 'INPUT' || tag === 'TEXTAREA')
      parts.push('input ' + (/checkbox|radio/.test(node.type) ? node.checked : node.value));
    if (node.getAttribute('aria-valuenow') !== null) parts.push('value ' + node.getAttribute('aria-valuenow'));
    if (node.classList.contains('progress-bar')) parts.push('width ' + node.style.width);
    for (const child of node.childNodes) describe(child, skip, parts);
  };

  walk.look = (path, id) => {  // every cell's outputs, without the control itself
    const skip = document.querySelector(`[data-walk="${id}"]`), found = {};
    walk.panel(path).content.widgets.forEach((cell, i) => {
      if (cell.model.type !== 'code') return;
      const parts = [];
      for (const node of cell.node.querySelectorAll(':scope .jp-Cell-outputWrapper')) describe(node, skip, parts);
      found[i] = parts.join('\u0001');
    });
    return found;
  };

  walk.scroller = () => {
    const shown = [...document.querySelectorAll('.jp-NotebookPanel')].find(node => node.getClientRects().length);
    const outer = shown.querySelector('.jp-WindowedPanel-outer');
    return outer && outer.scrollHeight > outer.clientHeight ? outer : shown.querySelector('.jp-Notebook') || shown;
  };
})()
