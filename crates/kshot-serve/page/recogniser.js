// Asks the server about the current picture while it changes: at most one question is under way, and the newest picture
// is always answered in the end.

import * as api from './api.js';

/** Pause after a change before the question, in milliseconds: many small changes make one question. */
const PAUSE = 70;

export class Recogniser {
  /** `picture()` gives what to ask about, or null; `onanswer(answer, error)` takes what came back. */
  constructor({ picture, onanswer }) {
    this.picture = picture;
    this.onanswer = onanswer;
    this.busy = false;
    this.changed = false;
    this.timer = null;
  }

  /** Something has changed. */
  look() {
    this.changed = true;
    this.timer ??= setTimeout(() => this.ask(), PAUSE);
  }

  async ask() {
    this.timer = null;
    if (this.busy || !this.changed) return;
    this.busy = true;
    this.changed = false;
    try {
      const picture = await this.picture();
      const answer = picture === null ? null : await api.classify(picture);
      // What came for a picture that is gone by now is still the best answer there is, but for an empty pad.
      this.onanswer(this.changed && (await this.picture()) === null ? null : answer);
    } catch (error) {
      this.onanswer(null, error);
    } finally {
      this.busy = false;
      if (this.changed) this.look();
    }
  }
}
