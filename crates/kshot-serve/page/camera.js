// The camera: on while it is chosen, off otherwise.

const SIDE = 224;

export class Camera {
  constructor(video) {
    this.video = video;
    this.stream = null;
  }

  /** Starts; fails with what to do. */
  async start() {
    if (!navigator.mediaDevices?.getUserMedia) {
      throw new Error('Browsers give the camera to this computer’s own pages and to https only.');
    }
    try {
      this.stream = await navigator.mediaDevices.getUserMedia({
        video: { width: { ideal: 640 }, height: { ideal: 480 }, facingMode: 'environment' },
      });
    } catch (error) {
      throw new Error(error.name === 'NotAllowedError'
        ? 'The browser was not allowed to use the camera. Allow it beside the address, and choose Camera again.'
        : `No camera can be used (${error.message}).`);
    }
    this.video.srcObject = this.stream;
    await this.video.play();
  }

  stop() {
    for (const track of this.stream?.getTracks() ?? []) track.stop();
    this.stream = null;
    this.video.srcObject = null;
  }

  get on() {
    return this.stream !== null && this.video.videoWidth > 0;
  }

  /** The middle square of what it sees now. */
  async picture() {
    const { videoWidth: width, videoHeight: height } = this.video;
    const side = Math.min(width, height);
    const canvas = new OffscreenCanvas(SIDE, SIDE);
    canvas.getContext('2d').drawImage(this.video, (width - side) / 2, (height - side) / 2, side, side, 0, 0, SIDE, SIDE);
    return canvas.convertToBlob({ type: 'image/jpeg', quality: 0.92 });
  }
}
