import { unknownModel } from '../../core/model/device.ts';
import { type Bytes, digest } from '../../core/runtime/bytes.ts';
import { PkiError } from '../../core/runtime/errors.ts';
import type { HolderStore } from '../../store/api/holder-store.ts';
import { encodeDeviceReport, parseDeviceReport } from '../request/device-report.ts';
import type { DeviceEvidence } from '../request/evidence/evidence.ts';
import type { CertificateAuthority } from './certificate-authority.ts';
import { readHolderMessage } from './holder-message.ts';

/**
 * What a phone says that it is now, once its signature and its evidence are verified. A certificate that is held may sign it: that a phone was
 * updated is how it ceases to be of a kind that is held. Throws `invalid-signed-request`, `evidence-missing`, `invalid-device-evidence`.
 */
export async function readDeviceReport(
  ca: CertificateAuthority,
  {
    der,
    evidence,
  }: { readonly der: Bytes; readonly evidence: Pick<DeviceEvidence, 'keyAttestation'> | undefined },
  client: string,
): Promise<Omit<Parameters<HolderStore['reportDevice']>[0], 'scope' | 'actor'>> {
  const form = {
    contentType: ca.config.scheme.reportContentType,
    name: 'DeviceReport',
    parse: parseDeviceReport,
    kinds: ['phone-authentication'],
    mayBeHeld: true,
  } as const;
  const { content, view, challengeHash } = await readHolderMessage(ca, form, { der, client });
  const { holderId, mediumId } = view;
  const phone = await ca.store.medium(mediumId);
  if (phone?.type !== 'phone' || phone.platform === null)
    throw new PkiError('invalid-signed-request', 'of the phone that signed nothing is on record');
  const { osVersion, appletVersion, appVersion } = content;
  const device = {
    ...{ deviceId: mediumId.slice('phone:'.length), platform: phone.platform, osVersion },
    model: phone.model === unknownModel ? '' : (phone.model ?? ''),
    ...{ secureElement: phone.secureElement ?? '', patchLevel: content.patchLevel },
  };
  const patchLevel = ca.evidence.checkReport(device, digest('sha256', encodeDeviceReport(content)), evidence);
  const facts = { osVersion, patchLevel, appletVersion, appVersion };
  return { holderId, mediumId, signedWith: view, facts, challengeHash };
}
